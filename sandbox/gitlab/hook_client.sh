#!/bin/bash
# The hook that git runs: hand the push to the server, print its answer, exit by it.
#
# Run under the name of the hook, `pre-receive` or `post-receive`. Bash and nothing else, as this is part of every push's time: an
# interpreter that takes longer to start than the push itself would hide what is measured. The server's address and
# the key of this push come from the environment.
set -u
body=""
for name in GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES; do
  [ -z "${!name+set}" ] || body+="environment $name=${!name}"$'\n'
done
for ((number = 0; number < ${GIT_PUSH_OPTION_COUNT:-0}; number++)); do
  option="GIT_PUSH_OPTION_$number"
  body+="option ${!option}"$'\n'
done
while IFS= read -r line; do
  body+="update $line"$'\n'
done

LC_ALL=C # so that a length is one of bytes
exec 3<>"/dev/tcp/127.0.0.1/$SANDBOX_PORT"
printf 'POST /-/hooks/%s HTTP/1.0\r\nX-Push: %s\r\nContent-Length: %s\r\n\r\n%s' \
  "${0##*/}" "$SANDBOX_PUSH" "${#body}" "$body" >&3

allowed=1
while IFS= read -r line <&3 && [ "$line" != $'\r' ]; do
  [ "$line" != $'X-Allowed: yes\r' ] || allowed=0
done
while IFS= read -r line <&3 || [ -n "$line" ]; do
  printf '%s\n' "$line" >&2
done
exit $allowed
