path "scaleway/project/demo-prod/data/credentials/access" {
  capabilities = ["read"]
}

path "scaleway/project/demo-prod/metadata/credentials/access" {
  capabilities = ["read"]
}

path "scaleway/project/demo-prod/data/credentials/secret" {
  capabilities = ["read"]
}

path "scaleway/project/demo-prod/metadata/credentials/secret" {
  capabilities = ["read"]
}

path "scaleway/project/demo-prod/data/config" {
  capabilities = ["read"]
}

path "scaleway/project/demo-prod/metadata/config" {
  capabilities = ["read"]
}

path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}

path "sys/capabilities-self" {
  capabilities = ["update"]
}
