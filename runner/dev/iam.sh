#!/bin/sh
# Rendered by `pipeline-tools runner render`: change the binding file, not this one. The same as iam.tf, with gcloud.
set -eu

gcloud iam service-accounts create gsa-dev-deployer --project demo-devops
gcloud iam service-accounts add-iam-policy-binding gsa-dev-deployer@demo-devops.iam.gserviceaccount.com --project demo-devops \
  --role roles/iam.workloadIdentityUser --member 'serviceAccount:demo-devops.svc.id.goog[sw-dev/ksa-sw-dev-deployer]'

gcloud iam service-accounts create gsa-dev-builder --project demo-devops
gcloud iam service-accounts add-iam-policy-binding gsa-dev-builder@demo-devops.iam.gserviceaccount.com --project demo-devops \
  --role roles/iam.workloadIdentityUser --member 'serviceAccount:demo-devops.svc.id.goog[sw-dev-build/ksa-sw-dev-builder]'
gcloud artifacts repositories add-iam-policy-binding candidates --project demo-devops \
  --location europe-west1 --role roles/artifactregistry.writer --member serviceAccount:gsa-dev-builder@demo-devops.iam.gserviceaccount.com
gcloud artifacts repositories add-iam-policy-binding apps --project demo-devops \
  --location europe-west1 --role roles/artifactregistry.writer --member serviceAccount:gsa-dev-builder@demo-devops.iam.gserviceaccount.com
