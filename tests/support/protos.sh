#!/usr/bin/env bash
# Checks the messages in proto/ with buf: its rules (proto/buf.yaml), and that names and numbers of fields stay.
#
# Owns: with which commit they are compared: the last one of main; on main itself the one before. Does not own: the rules.
# Rule: without a commit to compare with (a shallow clone) the comparison is left out, with a note.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

SERVERS=${STREAMCTL_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/streamctl/servers}
export PATH=$SERVERS/node/bin:$PATH
buf() { "$SERVERS/buf/node_modules/.bin/buf" "$@"; }

commit() { git rev-parse --quiet --verify "$1^{commit}" 2>/dev/null; }

buf lint proto

before=$(commit main || commit origin/main || true)
if [ -n "$before" ] && [ "$before" = "$(commit HEAD)" ] && git diff --quiet HEAD -- proto; then
  before=$(commit HEAD~1 || true)
fi
if [ -z "$before" ]; then
  echo "protos.sh: there is no commit of main to compare with" >&2
  exit 0
fi
buf breaking proto --against ".git#ref=$before,subdir=proto"
