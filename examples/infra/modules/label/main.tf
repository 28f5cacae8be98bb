# A label of one form for all that a root makes. The roots call it by its folder: a change here touches them all.
terraform {
  required_version = ">= 1.11"
}

variable "name" {
  description = "What is labelled."
  type        = string
}

variable "environment" {
  description = "The environment it is in."
  type        = string
}

resource "terraform_data" "label" {
  input = "${var.name}-${var.environment}"
}

output "text" {
  description = "NAME-ENVIRONMENT."
  value       = terraform_data.label.input
}
