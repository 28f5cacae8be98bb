mock_provider "google" {}

variables {
  project      = "demo-project"
  gitlab_url   = "https://gitlab.example.com"
  namespace_id = 7
  project_ids  = [42, 9]
}

run "only_protected_refs_of_named_projects" {
  command = plan

  assert {
    condition     = google_iam_workload_identity_pool_provider.gitlab.attribute_condition == "assertion.namespace_id == '7' && assertion.project_id in ['42', '9'] && assertion.ref_protected == 'true'"
    error_message = "The condition admits others."
  }

  assert {
    condition     = google_iam_workload_identity_pool_provider.gitlab.oidc[0].issuer_uri == "https://gitlab.example.com"
    error_message = "Tokens of another issuer are taken."
  }
}

run "no_project_is_refused" {
  command = plan

  variables {
    project_ids = []
  }

  expect_failures = [var.project_ids]
}

run "plain_http_is_refused" {
  command = plan

  variables {
    gitlab_url = "http://gitlab.example.com"
  }

  expect_failures = [var.gitlab_url]
}

run "a_name_that_google_keeps_is_refused" {
  command = plan

  variables {
    pool = "gcp-gitlab"
  }

  expect_failures = [var.pool]
}
