#!/bin/sh
# Rendered by `pipeline-tools runner render`: change the binding file, not this one. The same as iam.tf, with gcloud.
set -eu

gcloud iam service-accounts create gsa-prod-deployer --project demo-devops
gcloud iam service-accounts add-iam-policy-binding gsa-prod-deployer@demo-devops.iam.gserviceaccount.com --project demo-devops \
  --role roles/iam.workloadIdentityUser --member 'serviceAccount:demo-devops.svc.id.goog[sw-prod/ksa-sw-prod-deployer]'
