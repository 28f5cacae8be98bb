mock_provider "google" {
  mock_resource "google_compute_ha_vpn_gateway" {
    defaults = {
      vpn_interfaces = [{ id = 0, ip_address = "203.0.113.1" }, { id = 1, ip_address = "203.0.113.2" }]
    }
  }
}

variables {
  project          = "demo-project"
  name             = "demo-dev"
  region           = "europe-west9"
  network          = "projects/demo-project/global/networks/main"
  scaleway_address = "198.51.100.1"
  google_ranges    = ["10.128.0.0/20"]
  shared_secrets   = ["not-a-secret-0", "not-a-secret-1"]
}

run "without_a_peer_there_is_only_the_gateway" {
  command = plan

  variables {
    scaleway_address = null
    shared_secrets   = []
  }

  assert {
    condition     = length(google_compute_vpn_tunnel.scaleway) == 0 && length(google_compute_external_vpn_gateway.scaleway) == 0
    error_message = "There are tunnels to nowhere."
  }
}

run "two_tunnels_with_sessions_of_their_own" {
  command = plan

  assert {
    condition     = [for tunnel in google_compute_vpn_tunnel.scaleway : tunnel.vpn_gateway_interface] == [0, 1]
    error_message = "Both tunnels leave by one interface."
  }

  assert {
    condition     = [for interface in google_compute_router_interface.scaleway : interface.ip_range] == ["169.254.10.2/30", "169.254.10.6/30"]
    error_message = "Google's ends of the tunnels are elsewhere."
  }

  assert {
    condition     = [for peer in google_compute_router_peer.scaleway : peer.peer_ip_address] == ["169.254.10.1", "169.254.10.5"]
    error_message = "Scaleway's ends of the tunnels are elsewhere."
  }

  assert {
    condition     = alltrue([for peer in google_compute_router_peer.scaleway : peer.peer_asn == 12876])
    error_message = "The peer is not Scaleway."
  }
}

run "only_what_is_named_is_announced" {
  command = plan

  assert {
    condition     = google_compute_router.main.bgp[0].advertise_mode == "CUSTOM" && google_compute_router.main.bgp[0].advertised_ip_ranges[*].range == ["10.128.0.0/20"]
    error_message = "Something else is announced."
  }
}

run "one_key_is_refused" {
  command = plan

  variables {
    shared_secrets = ["not-a-secret-0"]
  }

  expect_failures = [var.shared_secrets]
}

run "the_default_route_is_refused" {
  command = plan

  variables {
    google_ranges = ["0.0.0.0/0"]
  }

  expect_failures = [var.google_ranges]
}
