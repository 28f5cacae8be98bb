#!/bin/sh
# Rendered by `pipeline-tools runner render`: change the binding file, not this one.
# Makes each class's runner in GitLab and puts its token into the chart's secret; the token is in no argument.
# docs.gitlab.com/api/users, "Create a runner linked to a user". Needs glab, jq and kubectl.
set -eu

glab api --hostname gitlab.example.com --method POST user/runners --field runner_type=project_type --field project_id=101 \
  --field tag_list=sw-prod-deploy --field run_untagged=false --field locked=true \
  --field access_level=ref_protected --field description=sw-prod-deploy |
  jq --exit-status --join-output .token |
  kubectl create secret generic gitlab-runner-sw-prod-deploy --namespace sw-prod \
    --from-file=runner-token=/dev/stdin --from-literal=runner-registration-token=

glab api --hostname gitlab.example.com --method POST user/runners --field runner_type=project_type --field project_id=101 \
  --field tag_list=sw-prod-apply --field run_untagged=false --field locked=true \
  --field access_level=ref_protected --field description=sw-prod-apply |
  jq --exit-status --join-output .token |
  kubectl create secret generic gitlab-runner-sw-prod-apply --namespace sw-prod \
    --from-file=runner-token=/dev/stdin --from-literal=runner-registration-token=
