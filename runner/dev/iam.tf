# Rendered by `pipeline-tools runner render`: change the binding file, not this one.

resource "google_service_account" "gsa-dev-deployer" {
  project    = "demo-devops"
  account_id = "gsa-dev-deployer"
}

# The Kubernetes service account is the Google one (GKE, "Workload Identity Federation").
resource "google_service_account_iam_member" "gsa-dev-deployer" {
  service_account_id = google_service_account.gsa-dev-deployer.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:demo-devops.svc.id.goog[sw-dev/ksa-sw-dev-deployer]"
}

resource "google_service_account" "gsa-dev-builder" {
  project    = "demo-devops"
  account_id = "gsa-dev-builder"
}

# The Kubernetes service account is the Google one (GKE, "Workload Identity Federation").
resource "google_service_account_iam_member" "gsa-dev-builder" {
  service_account_id = google_service_account.gsa-dev-builder.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:demo-devops.svc.id.goog[sw-dev-build/ksa-sw-dev-builder]"
}

resource "google_artifact_registry_repository_iam_member" "gsa-dev-builder-europe-west1-candidates" {
  project    = "demo-devops"
  location   = "europe-west1"
  repository = "candidates"
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.gsa-dev-builder.member
}

resource "google_artifact_registry_repository_iam_member" "gsa-dev-builder-europe-west1-apps" {
  project    = "demo-devops"
  location   = "europe-west1"
  repository = "apps"
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.gsa-dev-builder.member
}
