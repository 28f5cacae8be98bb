terraform {
  required_version = ">= 1.11, < 2.0"

  backend "http" {}

  required_providers {
    scaleway = {
      source  = "scaleway/scaleway"
      version = "~> 2.81"
    }
  }
}

# Credentials and project come from the environment (SCW_*), lent by Vault for the job.
provider "scaleway" {
  region = var.region
}
