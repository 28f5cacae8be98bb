output "greeting" {
  description = "The greeting."
  value       = terraform_data.greeting.output
}

output "password" {
  description = "To see that nobody sees it."
  value       = var.password
  sensitive   = true
}
