mock_provider "scaleway" {}

variables {
  name               = "demo-dev"
  kubernetes_version = "1.35"
  private_network_id = "fr-par/11111111-1111-1111-1111-111111111111"
  admitted           = { "203.0.113.7/32" = "runners" }
}

run "nodes_are_private_and_heal" {
  command = plan

  assert {
    condition     = scaleway_k8s_pool.main.public_ip_disabled && scaleway_k8s_pool.main.autohealing && scaleway_k8s_pool.main.autoscaling
    error_message = "The pool is not what it should be."
  }

  assert {
    condition     = scaleway_k8s_cluster.main.delete_additional_resources == false
    error_message = "The cluster would take its network along."
  }
}

run "only_who_is_named_is_admitted" {
  command = plan

  assert {
    condition     = [for rule in scaleway_k8s_acl.main.acl_rules : rule.ip] == ["203.0.113.7/32"]
    error_message = "Others are admitted."
  }
}

run "the_world_is_refused" {
  command = plan

  variables {
    admitted = { "0.0.0.0/0" = "everybody" }
  }

  expect_failures = [var.admitted]
}

run "half_the_world_is_refused" {
  command = plan

  variables {
    admitted = { "0.0.0.0/1" = "half", "128.0.0.0/1" = "the other half" }
  }

  expect_failures = [var.admitted]
}

run "nobody_is_refused" {
  command = plan

  variables {
    admitted = {}
  }

  expect_failures = [var.admitted]
}

run "another_region_is_refused" {
  command = plan

  variables {
    private_network_id = "nl-ams/11111111-1111-1111-1111-111111111111"
  }

  expect_failures = [var.private_network_id]
}

run "sizes_are_in_order" {
  command = plan

  variables {
    min_size = 4
    max_size = 3
  }

  expect_failures = [var.max_size]
}
