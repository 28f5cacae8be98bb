# Neither the kubeconfig nor its token: that is an administrator's, and it would stand in every plan.
output "cluster_id" {
  description = "The cluster; `scw k8s kubeconfig get` makes a kubeconfig from it for whoever may."
  value       = scaleway_k8s_cluster.main.id
}

output "api_address" {
  description = "The Kubernetes API, for those that are admitted."
  value       = scaleway_k8s_cluster.main.apiserver_url
}
