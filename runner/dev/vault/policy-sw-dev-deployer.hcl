path "scaleway/project/demo-dev/data/credentials/access" {
  capabilities = ["read"]
}

path "scaleway/project/demo-dev/metadata/credentials/access" {
  capabilities = ["read"]
}

path "scaleway/project/demo-dev/data/credentials/secret" {
  capabilities = ["read"]
}

path "scaleway/project/demo-dev/metadata/credentials/secret" {
  capabilities = ["read"]
}

path "scaleway/project/demo-dev/data/config" {
  capabilities = ["read"]
}

path "scaleway/project/demo-dev/metadata/config" {
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
