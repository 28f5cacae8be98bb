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

variable "private_network_id" {
  description = "Private network, as the network root's output private_network_id gives it: REGION/UUID."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}-[a-z]{3}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.private_network_id))
    error_message = "The private network is an id of the form fr-par/11111111-1111-1111-1111-111111111111."
  }

  validation {
    condition     = startswith(var.private_network_id, "${var.region}/")
    error_message = "The private network is in another region."
  }
}

variable "gateway_type" {
  description = "Commercial type of the VPN gateway."
  type        = string
  default     = "VGW-S"
}

variable "google_addresses" {
  description = "Public IPv4 addresses of the two interfaces of Google's HA VPN gateway (output of google/vpn)."
  type        = list(string)

  validation {
    condition     = length(distinct(var.google_addresses)) == 2 && alltrue([for address in var.google_addresses : can(cidrhost("${address}/32", 0))])
    error_message = "Two different IPv4 addresses: one for each tunnel."
  }
}

variable "google_asn" {
  description = "AS number of the Google router."
  type        = number
  default     = 64514

  validation {
    condition     = var.google_asn >= 64512 && var.google_asn <= 65534
    error_message = "The AS number is a private one (64512 to 65534)."
  }
}

variable "inside_ranges" {
  description = "Link-local /30 of each tunnel; Scaleway has its first address, Google the second. The same in both vpn roots."
  type        = list(string)
  default     = ["169.254.10.0/30", "169.254.10.4/30"]

  validation {
    condition = length(distinct(var.inside_ranges)) == 2 && alltrue([
      for range in var.inside_ranges : can(regex("^169\\.254\\.[0-9.]+/30$", range)) && try(cidrsubnet(range, 0, 0) == range, false)
    ])
    error_message = "Two different /30 in 169.254.0.0/16."
  }
}

variable "google_ranges" {
  description = "Ranges that Google may announce; all others are filtered out."
  type        = list(string)

  validation {
    condition     = length(var.google_ranges) > 0 && alltrue([for range in var.google_ranges : try(cidrsubnet(range, 0, 0) == range, false)])
    error_message = "Each is a CIDR whose address is the first of its range."
  }

  validation {
    condition     = alltrue([for range in var.google_ranges : try(tonumber(split("/", range)[1]) >= 8, false)])
    error_message = "Nothing wider than /8 goes through the VPN: never the default route."
  }
}

variable "scaleway_ranges" {
  description = "Ranges that are announced to Google."
  type        = list(string)

  validation {
    condition     = length(var.scaleway_ranges) > 0 && alltrue([for range in var.scaleway_ranges : try(cidrsubnet(range, 0, 0) == range, false)])
    error_message = "Each is a CIDR whose address is the first of its range."
  }

  validation {
    condition     = alltrue([for range in var.scaleway_ranges : try(tonumber(split("/", range)[1]) >= 8, false)])
    error_message = "Nothing wider than /8 goes through the VPN: never the default route."
  }
}

