# Scaleway's end: one gateway with one address. Google's has two, so there are two tunnels; each with its own BGP session.
locals {
  tunnels = {
    for index, address in var.google_addresses : tostring(index) => {
      address = address
      length  = split("/", var.inside_ranges[index])[1]
      here    = cidrhost(var.inside_ranges[index], 1)
      there   = cidrhost(var.inside_ranges[index], 2)
    }
  }
}

resource "scaleway_s2s_vpn_gateway" "main" {
  name               = var.name
  gateway_type       = var.gateway_type
  private_network_id = var.private_network_id
}

data "scaleway_ipam_ip" "public" {
  ipam_ip_id = scaleway_s2s_vpn_gateway.main.public_config[0].ipam_ipv4_id
}

resource "scaleway_s2s_vpn_customer_gateway" "google" {
  for_each = local.tunnels

  name        = "${var.name}-google-${each.key}"
  ipv4_public = each.value.address
  asn         = var.google_asn
}

resource "scaleway_s2s_vpn_routing_policy" "google" {
  name              = "${var.name}-google"
  prefix_filter_in  = var.google_ranges
  prefix_filter_out = var.scaleway_ranges
}

# The pre-shared key is made by Scaleway and stays in its Secret Manager.
resource "scaleway_s2s_vpn_connection" "google" {
  for_each = local.tunnels

  name                     = "${var.name}-google-${each.key}"
  vpn_gateway_id           = scaleway_s2s_vpn_gateway.main.id
  customer_gateway_id      = scaleway_s2s_vpn_customer_gateway.google[each.key].id
  initiation_policy        = "customer_gateway"
  enable_route_propagation = true

  bgp_config_ipv4 {
    routing_policy_id = scaleway_s2s_vpn_routing_policy.google.id
    private_ip        = "${each.value.here}/${each.value.length}"
    peer_private_ip   = "${each.value.there}/${each.value.length}"
  }

  ikev2_ciphers {
    encryption = "aes256"
    integrity  = "sha256"
    dh_group   = "modp2048"
  }

  esp_ciphers {
    encryption = "aes256"
    integrity  = "sha256"
    dh_group   = "modp2048"
  }
}
