output "addresses" {
  description = "Public IPv4 addresses of the two interfaces: the variable google_addresses of scaleway/vpn."
  value       = google_compute_ha_vpn_gateway.main.vpn_interfaces[*].ip_address
}

output "asn" {
  description = "The router's AS number: the variable google_asn of scaleway/vpn."
  value       = var.google_asn
}
