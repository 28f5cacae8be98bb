# A root without providers: it plans, applies, drifts and is destroyed anywhere, offline.
terraform {
  required_version = ">= 1.11, < 2.0"

  backend "http" {}
}

locals {
  neighbour = coalesce(var.neighbour, "${path.module}/neighbour.json")
}

# Another root's outputs. When they change, this root's plan does too, though nobody changed its configuration.
data "terraform_remote_state" "neighbour" {
  backend = "local"
  config = {
    path = local.neighbour
  }
}

module "label" {
  source = "../modules/label"

  name        = var.name
  environment = var.environment
}

resource "terraform_data" "greeting" {
  input = "Hello ${module.label.text} from ${data.terraform_remote_state.neighbour.outputs.greeter}"
}

# What a password decides is replaced when it changes, and the password is in no output.
resource "terraform_data" "door" {
  input            = module.label.text
  triggers_replace = sha256(var.password)
}

# Copies, to have as many changes as a test or the demo wants.
resource "terraform_data" "copy" {
  count = var.copies
  input = "${module.label.text}-${count.index}"
}
