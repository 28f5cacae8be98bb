# Rendered by `pipeline-tools runner render`: change the binding file, not this one.

resource "google_service_account" "gsa-prod-deployer" {
  project    = "demo-devops"
  account_id = "gsa-prod-deployer"
}

# The Kubernetes service account is the Google one (GKE, "Workload Identity Federation").
resource "google_service_account_iam_member" "gsa-prod-deployer" {
  service_account_id = google_service_account.gsa-prod-deployer.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:demo-devops.svc.id.goog[sw-prod/ksa-sw-prod-deployer]"
}
