variable "project" {
  description = "Google Cloud project id."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "gitlab_url" {
  description = "The GitLab instance, as it stands in the claim iss of its tokens."
  type        = string

  validation {
    condition     = can(regex("^https://[a-z0-9.-]+[a-z0-9]$", var.gitlab_url))
    error_message = "An https address without a path and without a slash at the end."
  }
}

variable "namespace_id" {
  description = "Id of the GitLab group whose projects may log in; a number, for a path can be taken over by others."
  type        = number

  validation {
    condition     = var.namespace_id > 0 && floor(var.namespace_id) == var.namespace_id
    error_message = "The group's id, as its page shows it."
  }
}

variable "project_ids" {
  description = "Ids of the GitLab projects that may log in."
  type        = set(number)

  validation {
    condition     = length(var.project_ids) > 0 && alltrue([for id in var.project_ids : id > 0 && floor(id) == id])
    error_message = "At least one project's id."
  }
}

variable "pool" {
  description = "Id of the workload identity pool."
  type        = string
  default     = "gitlab"

  validation {
    condition     = can(regex("^[a-z0-9-]{4,32}$", var.pool)) && !startswith(var.pool, "gcp-")
    error_message = "4 to 32 lower-case letters, digits and hyphens, not beginning with gcp-."
  }
}
