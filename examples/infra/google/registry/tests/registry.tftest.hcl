mock_provider "google" {}

variables {
  project  = "demo-project"
  location = "europe-west9"
  writers  = ["principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/gitlab/attribute.project_id/42"]
  readers  = ["serviceAccount:pull@demo-project.iam.gserviceaccount.com"]
}

run "releases_do_not_move" {
  command = plan

  assert {
    condition     = google_artifact_registry_repository.releases.docker_config[0].immutable_tags && !google_artifact_registry_repository.candidates.docker_config[0].immutable_tags
    error_message = "The wrong repository is immutable."
  }

  assert {
    condition     = alltrue([for policy in google_artifact_registry_repository.releases.cleanup_policies : policy.condition[0].tag_state == "UNTAGGED"])
    error_message = "Released images are cleaned up."
  }

  assert {
    condition     = !google_artifact_registry_repository.candidates.cleanup_policy_dry_run
    error_message = "Nothing is cleaned up."
  }
}

run "writers_write_to_both_and_readers_read_releases" {
  command = plan

  assert {
    condition     = length(google_artifact_registry_repository_iam_member.writers) == 2
    error_message = "A writer lacks a repository."
  }

  assert {
    condition     = length(google_artifact_registry_repository_iam_member.readers) == 1
    error_message = "Readers see more than releases."
  }
}

run "everybody_is_refused" {
  command = plan

  variables {
    readers = ["allUsers"]
  }

  expect_failures = [var.readers]
}

run "a_person_is_refused" {
  command = plan

  variables {
    writers = ["user:jane@example.com"]
  }

  expect_failures = [var.writers]
}
