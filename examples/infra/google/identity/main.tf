locals {
  projects = join(", ", [for id in sort([for id in var.project_ids : tostring(id)]) : "'${id}'"])
}

resource "google_iam_workload_identity_pool" "gitlab" {
  workload_identity_pool_id = var.pool
  display_name              = "GitLab"
  description               = "Jobs of ${var.gitlab_url}"
}

# GitLab's claims (docs.gitlab.com/ci/secrets/id_token_authentication); ids and ref_protected are texts there.
resource "google_iam_workload_identity_pool_provider" "gitlab" {
  workload_identity_pool_id          = google_iam_workload_identity_pool.gitlab.workload_identity_pool_id
  workload_identity_pool_provider_id = "gitlab"
  display_name                       = "GitLab"

  # sub can be longer than the 127 characters that Google takes.
  attribute_mapping = {
    "google.subject"        = "'project:' + assertion.project_id + ':job:' + assertion.job_id"
    "attribute.project_id"  = "assertion.project_id"
    "attribute.ref"         = "assertion.ref"
    "attribute.environment" = "has(assertion.environment) ? assertion.environment : ''"
  }

  # Without a condition every project of the instance could log in, and every branch of ours.
  attribute_condition = join(" && ", [
    "assertion.namespace_id == '${var.namespace_id}'",
    "assertion.project_id in [${local.projects}]",
    "assertion.ref_protected == 'true'",
  ])

  oidc {
    issuer_uri = var.gitlab_url
  }
}
