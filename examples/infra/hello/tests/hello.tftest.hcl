run "it_greets" {
  command = apply

  assert {
    condition     = output.greeting == "Hello world-dev from the house next door"
    error_message = "It greets somebody else."
  }

  assert {
    condition     = length(terraform_data.copy) == 1
    error_message = "There is not one copy."
  }
}

run "the_neighbour_changes_the_plan" {
  command = plan

  variables {
    neighbour = "tests/moved.json"
  }

  assert {
    condition     = terraform_data.greeting.input == "Hello world-dev from the new neighbour"
    error_message = "What changed outside does not show."
  }
}

run "another_environment_is_refused" {
  command = plan

  variables {
    environment = "staging"
  }

  expect_failures = [var.environment]
}

run "a_short_password_is_refused" {
  command = plan

  variables {
    password = "short"
  }

  expect_failures = [var.password]
}
