resource "scaleway_vpc" "main" {
  name           = var.name
  enable_routing = true
}

resource "scaleway_vpc_private_network" "main" {
  name   = var.name
  vpc_id = scaleway_vpc.main.id

  ipv4_subnet {
    subnet = var.subnet
  }
}

# Nodes without a public address reach the internet through this one.
resource "scaleway_vpc_public_gateway_ip" "main" {
  zone = var.zone
}

resource "scaleway_vpc_public_gateway" "main" {
  name            = var.name
  type            = var.gateway_type
  zone            = var.zone
  ip_id           = scaleway_vpc_public_gateway_ip.main.id
  bastion_enabled = false
}

resource "scaleway_vpc_gateway_network" "main" {
  gateway_id         = scaleway_vpc_public_gateway.main.id
  private_network_id = scaleway_vpc_private_network.main.id
  zone               = var.zone
  enable_masquerade  = true

  ipam_config {
    push_default_route = true
  }
}
