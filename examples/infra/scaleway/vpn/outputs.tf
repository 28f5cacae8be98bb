output "address" {
  description = "Public IPv4 address of the gateway: the variable scaleway_address of google/vpn."
  value       = data.scaleway_ipam_ip.public.address
}

output "asn" {
  description = "Scaleway's AS number: the variable scaleway_asn of google/vpn."
  value       = scaleway_s2s_vpn_gateway.main.asn
}

# The ids of the keys, not the keys: whoever may read the secret gives it to google/vpn.
output "secret_ids" {
  description = "The secret of each tunnel's pre-shared key, and its revision."
  value       = [for tunnel in scaleway_s2s_vpn_connection.google : "${tunnel.secret_id}@${tunnel.secret_version}"]
}
