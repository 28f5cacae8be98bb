terraform {
  required_version = ">= 1.11"
}

variable "environment" {
  description = "Environment that this root is for."
  type        = string
  default     = "dev"

  validation {
    condition     = contains(["dev", "prod"], var.environment)
    error_message = "The environment is dev or prod."
  }
}

resource "terraform_data" "environment" {
  input = var.environment
}
