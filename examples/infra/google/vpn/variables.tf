variable "project" {
  description = "Google Cloud project id."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "name" {
  description = "Name of what this root makes."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,40}[a-z0-9]$", var.name))
    error_message = "The name has 3 to 42 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "region" {
  description = "Google Cloud region of the VPN gateway and router."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region looks like europe-west9."
  }
}

variable "network" {
  description = "VPC network that the VPN is for: projects/PROJECT/global/networks/NAME."
  type        = string

  validation {
    condition     = can(regex("^projects/[a-z][a-z0-9-]+/global/networks/[a-z][a-z0-9-]*$", var.network))
    error_message = "The network is projects/PROJECT/global/networks/NAME."
  }
}

variable "scaleway_address" {
  description = "Public IPv4 address of Scaleway's VPN gateway (output address of scaleway/vpn); none at first: see the README."
  type        = string
  default     = null

  validation {
    condition     = var.scaleway_address == null || can(cidrhost("${var.scaleway_address}/32", 0))
    error_message = "An IPv4 address."
  }
}

variable "scaleway_asn" {
  description = "Scaleway's AS number (output asn of scaleway/vpn)."
  type        = number
  default     = 12876
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
  description = "Ranges that are announced to Scaleway."
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

# Ephemeral: neither plan nor state ever holds them. Give them in TF_VAR_shared_secrets, as a JSON list.
variable "shared_secrets" {
  description = "Pre-shared keys of the two tunnels, from Scaleway's Secret Manager."
  type        = list(string)
  default     = []
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = var.scaleway_address == null || length(var.shared_secrets) == 2
    error_message = "Two keys: one for each tunnel."
  }
}

variable "shared_secrets_version" {
  description = "To be counted up when the keys change: nobody can see that they did."
  type        = number
  default     = 1
}
