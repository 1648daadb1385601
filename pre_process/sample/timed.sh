#!/usr/bin/env bash
# Run a step of the demo: its output goes to a log, and a line says which step it was and how many
# seconds it took. A step that fails shows its log. It stops when this is stopped.
#
# Run     bash timed.sh LOGS ON COMMAND ...     (ON: what the step works on, such as a model's name)
set -u
logs=$1 on=$2
shift 2
step="" name=""
for word; do
    case "$word" in
        pre_process.sample.*) name=${word##*.} file=${word//.//}.py ;;
        *.py) name=$word file=$word ;;
        *) continue ;;
    esac
    step=$(sed -n '1s/^"""\(Step [0-9a-z]*\).*/\1/p' "$file")
    break
done
mkdir -p "$logs"
log="$logs/$name${on:+-$on}.log"

run() {
    "$@" >"$log" 2>&1 &
    trap "kill $! 2>/dev/null; wait $!; rm -f '$log.$$'; exit 1" HUP INT TERM
    wait $!
}

TIMEFORMAT=%R
{ time run "$@"; } 2>"$log.$$"
status=$?
seconds=$(tail -n 1 "$log.$$")
rm "$log.$$"
if [ $status != 0 ]; then
    cat "$log" >&2
    echo "failed after $seconds s: $*" >&2
    exit 1
fi
printf '%8.1f s  %-9s %-28s %s\n' "$seconds" "${step:-Sample}" "$name" "$on"
