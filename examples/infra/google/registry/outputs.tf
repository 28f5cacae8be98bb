output "repository" {
  description = "Prefix of the released images: the input repository of the release template, but for the image's name."
  value       = "${var.location}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.releases.repository_id}"
}

output "candidate_repository" {
  description = "Prefix of the candidates."
  value       = "${var.location}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.candidates.repository_id}"
}
