output "vpc_id" {
  description = "The VPC."
  value       = scaleway_vpc.main.id
}

# Through the gateway's attachment: whoever has this id has a network with a way out.
output "private_network_id" {
  description = "The private network: a variable of the cluster and vpn roots."
  value       = scaleway_vpc_private_network.main.id
  depends_on  = [scaleway_vpc_gateway_network.main]
}

output "egress_address" {
  description = "The address that the nodes have on the internet."
  value       = scaleway_vpc_public_gateway_ip.main.address
}
