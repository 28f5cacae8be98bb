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

variable "kubernetes_version" {
  description = "Minor version of Kubernetes; Scaleway applies its patches in the maintenance window."
  type        = string

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version))
    error_message = "The version is a minor one (1.35): with automatic patches the provider takes no other."
  }
}

variable "node_type" {
  description = "Commercial type of the nodes. A change replaces the pool: every workload moves."
  type        = string
  default     = "PRO2-XS"
}

variable "min_size" {
  description = "Nodes that the autoscaler keeps."
  type        = number
  default     = 1

  validation {
    condition     = var.min_size >= 1 && floor(var.min_size) == var.min_size
    error_message = "At least one node stays."
  }
}

variable "max_size" {
  description = "Nodes that the autoscaler may make."
  type        = number
  default     = 5

  validation {
    condition     = var.max_size >= var.min_size && var.max_size <= 50 && floor(var.max_size) == var.max_size
    error_message = "max_size is between min_size and 50."
  }
}

variable "admitted" {
  description = "Who may reach the Kubernetes API: a description by IPv4 range (the runners' egress, the VPN, Argo CD)."
  type        = map(string)

  validation {
    condition     = length(var.admitted) > 0
    error_message = "Without a range nobody administers the cluster: name the runners' egress addresses."
  }

  validation {
    condition     = alltrue([for range in keys(var.admitted) : try(cidrsubnet(range, 0, 0) == range, false)])
    error_message = "A range is a CIDR whose address is the first of it (203.0.113.7/32)."
  }

  # Two halves are the whole as well: a range is /16 or narrower.
  validation {
    condition     = alltrue([for range in keys(var.admitted) : try(tonumber(split("/", range)[1]) >= 16, false)])
    error_message = "The API is not for everybody: neither 0.0.0.0/0 nor any range wider than /16."
  }
}
