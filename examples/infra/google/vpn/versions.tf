terraform {
  required_version = ">= 1.11, < 2.0"

  backend "http" {}

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.45"
    }
  }
}

# Credentials come from the environment: Workload Identity, or a token that Vault lends.
provider "google" {
  project = var.project
  region  = var.region
}
