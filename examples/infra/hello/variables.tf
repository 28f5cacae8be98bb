variable "environment" {
  description = "Environment that this root is for."
  type        = string
  default     = "dev"

  validation {
    condition     = contains(["dev", "prod"], var.environment)
    error_message = "The environment is dev or prod."
  }
}

variable "name" {
  description = "Whom to greet."
  type        = string
  default     = "world"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}$", var.name))
    error_message = "Lower-case letters, digits and hyphens; it begins with a letter."
  }
}

variable "copies" {
  description = "How many copies of the label to keep."
  type        = number
  default     = 1

  validation {
    condition     = var.copies >= 0 && var.copies <= 10000 && floor(var.copies) == var.copies
    error_message = "0 to 10000 copies."
  }
}

variable "password" {
  description = "Something that no plan, note or log may show; give it in TF_VAR_password."
  type        = string
  default     = "open-sesame"
  sensitive   = true

  validation {
    condition     = length(var.password) >= 8
    error_message = "At least eight characters."
  }
}

variable "neighbour" {
  description = "State file of the root next door; without one the neighbour.json here."
  type        = string
  default     = null
}
