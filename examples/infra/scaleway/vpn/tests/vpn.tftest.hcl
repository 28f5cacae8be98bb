mock_provider "scaleway" {
  mock_resource "scaleway_s2s_vpn_gateway" {
    defaults = {
      public_config = [{ ipam_ipv4_id = "fr-par/22222222-2222-2222-2222-222222222222", ipam_ipv6_id = "" }]
    }
  }
}

variables {
  name               = "demo-dev"
  private_network_id = "fr-par/11111111-1111-1111-1111-111111111111"
  google_addresses   = ["203.0.113.1", "203.0.113.2"]
  google_ranges      = ["10.128.0.0/20"]
  scaleway_ranges    = ["10.64.0.0/22"]
}

run "two_tunnels_with_sessions_of_their_own" {
  command = apply

  assert {
    condition     = [for tunnel in scaleway_s2s_vpn_connection.google : tunnel.bgp_config_ipv4[0].private_ip] == ["169.254.10.1/30", "169.254.10.5/30"]
    error_message = "Scaleway's ends of the tunnels are elsewhere."
  }

  assert {
    condition     = [for tunnel in scaleway_s2s_vpn_connection.google : tunnel.bgp_config_ipv4[0].peer_private_ip] == ["169.254.10.2/30", "169.254.10.6/30"]
    error_message = "Google's ends of the tunnels are elsewhere."
  }

  assert {
    condition     = [for gateway in scaleway_s2s_vpn_customer_gateway.google : gateway.ipv4_public] == var.google_addresses
    error_message = "The tunnels lead elsewhere."
  }

  assert {
    condition     = scaleway_s2s_vpn_routing_policy.google.prefix_filter_in == tolist(["10.128.0.0/20"])
    error_message = "Google may announce something else."
  }
}

run "one_address_is_refused" {
  command = plan

  variables {
    google_addresses = ["203.0.113.1", "203.0.113.1"]
  }

  expect_failures = [var.google_addresses]
}

run "the_default_route_is_refused" {
  command = plan

  variables {
    google_ranges = ["0.0.0.0/0"]
  }

  expect_failures = [var.google_ranges]
}

run "a_public_as_number_is_refused" {
  command = plan

  variables {
    google_asn = 15169
  }

  expect_failures = [var.google_asn]
}
