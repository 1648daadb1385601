#!/usr/bin/env bash
# Run a command while the sample's provider listens on this machine; its address is added to the
# command as --base-url. Both stop when this is stopped.
#
# Run     bash with_provider.sh FOLDER PYTHON SCRIPT ...    (FOLDER holds truth.csv)
set -euo pipefail
folder=$1 python=$2
shift
rm -f "$folder/provider.url"
"$python" -m pre_process.sample.provider --truth-file "$folder/truth.csv" --url-file "$folder/provider.url" &
provider=$! command=""
trap 'kill $provider $command 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM
until [ -s "$folder/provider.url" ]; do
    kill -0 $provider
    sleep 0.1
done
"$@" --base-url "$(cat "$folder/provider.url")" &
command=$!
wait $command
