# What is released stays what it is: a tag cannot move, and only what no tag names is cleaned up.
# Where moving tags are wanted (`push --moving`), they need a repository of their own.
resource "google_artifact_registry_repository" "releases" {
  location      = var.location
  repository_id = var.name
  description   = "Released images; tags are immutable."
  format        = "DOCKER"

  cleanup_policy_dry_run = false

  docker_config {
    immutable_tags = true
  }

  cleanup_policies {
    id     = "untagged"
    action = "DELETE"

    condition {
      tag_state  = "UNTAGGED"
      older_than = "30d"
    }
  }
}

resource "google_artifact_registry_repository" "candidates" {
  location      = var.location
  repository_id = "${var.name}-candidates"
  description   = "Images that a pipeline built and may release; also build caches."
  format        = "DOCKER"

  cleanup_policy_dry_run = false

  docker_config {
    immutable_tags = false
  }

  cleanup_policies {
    id     = "old"
    action = "DELETE"

    condition {
      tag_state  = "ANY"
      older_than = "${var.candidate_days}d"
    }
  }

  # So that an application that is rarely built keeps something to look at.
  cleanup_policies {
    id     = "newest"
    action = "KEEP"

    most_recent_versions {
      keep_count = 5
    }
  }
}

locals {
  repositories = {
    releases   = google_artifact_registry_repository.releases
    candidates = google_artifact_registry_repository.candidates
  }
  writers = { for pair in setproduct(keys(local.repositories), var.writers) : join(" ", pair) => pair }
}

resource "google_artifact_registry_repository_iam_member" "writers" {
  for_each = local.writers

  location   = local.repositories[each.value[0]].location
  repository = local.repositories[each.value[0]].name
  role       = "roles/artifactregistry.writer"
  member     = each.value[1]
}

resource "google_artifact_registry_repository_iam_member" "readers" {
  for_each = var.readers

  location   = google_artifact_registry_repository.releases.location
  repository = google_artifact_registry_repository.releases.name
  role       = "roles/artifactregistry.reader"
  member     = each.value
}
