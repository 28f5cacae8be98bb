variable "project" {
  description = "Google Cloud project id."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "location" {
  description = "Region, or multi-region, of the repositories."
  type        = string

  validation {
    condition     = can(regex("^([a-z]+-[a-z]+[0-9]+|europe|us|asia)$", var.location))
    error_message = "A region (europe-west9), or europe, us, asia."
  }
}

variable "name" {
  description = "Name of the release repository; the candidates' is NAME-candidates."
  type        = string
  default     = "apps"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,50}[a-z0-9])?$", var.name))
    error_message = "Lower-case letters, digits and hyphens; it begins with a letter."
  }
}

variable "writers" {
  description = "Who pushes to both repositories: members of IAM, such as principalSet://… from google/identity."
  type        = set(string)

  validation {
    condition     = alltrue([for member in var.writers : can(regex("^(serviceAccount:.+@.+|principal(Set)?://iam\\.googleapis\\.com/.+)$", member))])
    error_message = "A writer is a service account or a workload's identity: no person, and never allUsers."
  }
}

variable "readers" {
  description = "Who pulls from the release repository, such as the clusters' pull account."
  type        = set(string)
  default     = []

  validation {
    condition     = length(setintersection(var.readers, ["allUsers", "allAuthenticatedUsers"])) == 0
    error_message = "The images are not for everybody."
  }
}

variable "candidate_days" {
  description = "Days that a candidate is kept; longer than a release may take from build to push."
  type        = number
  default     = 14

  validation {
    condition     = var.candidate_days >= 2 && floor(var.candidate_days) == var.candidate_days
    error_message = "At least two days: a release that waits for approval needs its candidate."
  }
}
