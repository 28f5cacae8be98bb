variable "name" {
  description = "Name of what this root makes."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}[a-z0-9]$", var.name))
    error_message = "The name has 3 to 42 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "region" {
  description = "Scaleway region."
  type        = string
  default     = "fr-par"

  validation {
    condition     = contains(["fr-par", "nl-ams", "pl-waw", "it-mil"], var.region)
    error_message = "The region is fr-par, nl-ams, pl-waw or it-mil."
  }
}

variable "zone" {
  description = "Zone of the public gateway, in the region."
  type        = string
  default     = "fr-par-1"

  validation {
    condition     = can(regex("^${var.region}-[1-3]$", var.zone))
    error_message = "The zone is not in the region."
  }
}

variable "subnet" {
  description = "IPv4 range of the private network; nodes, load balancers and the VPN gateway take addresses from it."
  type        = string
  default     = "10.64.0.0/22"

  validation {
    condition     = can(cidrsubnet(var.subnet, 0, 0)) && try(cidrsubnet(var.subnet, 0, 0) == var.subnet, false)
    error_message = "The subnet is a CIDR whose address is the first of its range."
  }

  validation {
    condition = can(regex("^(10\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|192\\.168\\.)", var.subnet)) && try(
      tonumber(split("/", var.subnet)[1]) >= 16 && tonumber(split("/", var.subnet)[1]) <= 26, false
    )
    error_message = "The subnet is a private range from /16 to /26."
  }
}

variable "gateway_type" {
  description = "Commercial type of the public gateway."
  type        = string
  default     = "VPC-GW-S"
}
