output "audience" {
  description = "The aud of the job's id token: the provider's own name, since no other audience is allowed."
  value       = "https://iam.googleapis.com/${google_iam_workload_identity_pool_provider.gitlab.name}"
}

output "members" {
  description = "Each project's jobs as a member of IAM: the variable writers of google/registry."
  value = {
    for id in var.project_ids :
    id => "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.gitlab.name}/attribute.project_id/${id}"
  }
}
