# Google's end: a gateway with two interfaces, each with a tunnel to Scaleway's one address.
locals {
  tunnels = var.scaleway_address == null ? {} : {
    for index, range in var.inside_ranges : tostring(index) => {
      number = index
      here   = "${cidrhost(range, 2)}/${split("/", range)[1]}"
      there  = cidrhost(range, 1)
    }
  }
}

resource "google_compute_ha_vpn_gateway" "main" {
  name    = var.name
  network = var.network
  region  = var.region
}

resource "google_compute_router" "main" {
  name    = var.name
  network = var.network
  region  = var.region

  bgp {
    asn            = var.google_asn
    advertise_mode = "CUSTOM"

    dynamic "advertised_ip_ranges" {
      for_each = var.google_ranges

      content {
        range = advertised_ip_ranges.value
      }
    }
  }
}

resource "google_compute_external_vpn_gateway" "scaleway" {
  count = var.scaleway_address == null ? 0 : 1

  name            = "${var.name}-scaleway"
  redundancy_type = "SINGLE_IP_INTERNALLY_REDUNDANT"

  interface {
    id         = 0
    ip_address = var.scaleway_address
  }
}

resource "google_compute_vpn_tunnel" "scaleway" {
  for_each = local.tunnels

  name                            = "${var.name}-scaleway-${each.key}"
  region                          = var.region
  vpn_gateway                     = google_compute_ha_vpn_gateway.main.id
  vpn_gateway_interface           = each.value.number
  peer_external_gateway           = google_compute_external_vpn_gateway.scaleway[0].id
  peer_external_gateway_interface = 0
  router                          = google_compute_router.main.id
  ike_version                     = 2
  shared_secret_wo                = var.shared_secrets[each.value.number]
  shared_secret_wo_version        = var.shared_secrets_version

  # As in scaleway/vpn: aes256, sha256, modp2048 (group 14).
  cipher_suite {
    phase1 {
      encryption = ["AES-CBC-256"]
      integrity  = ["HMAC-SHA2-256-128"]
      prf        = ["PRF-HMAC-SHA2-256"]
      dh         = ["Group-14"]
    }

    phase2 {
      encryption = ["AES-CBC-256"]
      integrity  = ["HMAC-SHA2-256-128"]
      pfs        = ["Group-14"]
    }
  }
}

resource "google_compute_router_interface" "scaleway" {
  for_each = local.tunnels

  name       = "${var.name}-scaleway-${each.key}"
  region     = var.region
  router     = google_compute_router.main.name
  ip_range   = each.value.here
  vpn_tunnel = google_compute_vpn_tunnel.scaleway[each.key].name
}

resource "google_compute_router_peer" "scaleway" {
  for_each = local.tunnels

  name            = "${var.name}-scaleway-${each.key}"
  region          = var.region
  router          = google_compute_router.main.name
  interface       = google_compute_router_interface.scaleway[each.key].name
  peer_ip_address = each.value.there
  peer_asn        = var.scaleway_asn
}
