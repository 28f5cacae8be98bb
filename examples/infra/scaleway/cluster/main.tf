# cni and private_network_id cannot change later: the cluster would be replaced.
resource "scaleway_k8s_cluster" "main" {
  name               = var.name
  version            = var.kubernetes_version
  cni                = "cilium"
  private_network_id = var.private_network_id

  # True would take volumes, load balancers and the private network along when the cluster goes.
  delete_additional_resources = false

  auto_upgrade {
    enable                        = true
    maintenance_window_start_hour = 3
    maintenance_window_day        = "tuesday"
  }

  autoscaler_config {
    expander                     = "least_waste"
    scale_down_unneeded_time     = "10m"
    max_graceful_termination_sec = 600
    balance_similar_node_groups  = true
  }
}

# size is only for the creation: from then on the autoscaler decides.
resource "scaleway_k8s_pool" "main" {
  cluster_id          = scaleway_k8s_cluster.main.id
  name                = "${var.name}-main"
  node_type           = var.node_type
  size                = var.min_size
  min_size            = var.min_size
  max_size            = var.max_size
  autoscaling         = true
  autohealing         = true
  public_ip_disabled  = true
  wait_for_pool_ready = true

  # One more before one less. The provider does not send a 0 here when it makes a pool.
  upgrade_policy {
    max_surge       = 1
    max_unavailable = 1
  }
}

# Without these the API answers everybody.
resource "scaleway_k8s_acl" "main" {
  cluster_id = scaleway_k8s_cluster.main.id

  dynamic "acl_rules" {
    for_each = var.admitted

    content {
      ip          = acl_rules.key
      description = acl_rules.value
    }
  }
}
