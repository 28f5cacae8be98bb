mock_provider "scaleway" {}

variables {
  name = "demo-dev"
}

run "private_nodes_reach_the_internet" {
  command = plan

  assert {
    condition     = scaleway_vpc_gateway_network.main.enable_masquerade && scaleway_vpc_gateway_network.main.ipam_config[0].push_default_route
    error_message = "The gateway is not the network's way out."
  }

  assert {
    condition     = !scaleway_vpc_public_gateway.main.bastion_enabled
    error_message = "A bastion is open."
  }

  assert {
    condition     = scaleway_vpc_private_network.main.ipv4_subnet[0].subnet == "10.64.0.0/22"
    error_message = "The network has another range."
  }
}

run "a_public_range_is_refused" {
  command = plan

  variables {
    subnet = "8.8.0.0/16"
  }

  expect_failures = [var.subnet]
}

run "an_address_inside_a_range_is_refused" {
  command = plan

  variables {
    subnet = "10.64.0.1/22"
  }

  expect_failures = [var.subnet]
}

run "a_zone_elsewhere_is_refused" {
  command = plan

  variables {
    zone = "nl-ams-1"
  }

  expect_failures = [var.zone]
}
