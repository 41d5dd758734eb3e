#!/usr/bin/env bash
# math-verify 0.9.0 reads the base of a number as nothing: `2516_8` is parsed as the integer 2516, so it equals 2516_9 and
# plain 2516, although 2516 in base 8 is 1358. MATH-500 has published answers with a base, such as this one; a grader or a
# reward by this library takes the right digits in a wrong base for right. Two other differences, which it does see,
# are shown beside it: a half-open interval from one open at the other end, and a decimal from its neighbour.
# rapo_ray compares the base as part of the answer (rapo_ray/evaluation/expressions.py, tests/data/answer_spellings.txt).
# Installs math-verify with its parser's runtime into a temporary folder.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'math-verify[antlr4_13_2]==0.9.0' latex2sympy2_extended==1.11.0 \
  sympy==1.14.0 2>"$work/log" || { cat "$work/log"; exit 1; }
"$work/venv/bin/pip" list 2>/dev/null | grep -iE '^(math-verify|latex2sympy2|sympy)'
cat >"$work/bases.py" <<'PY'
from math_verify import parse, verify

PAIRS = [("$2516_8$", "$2516_9$"), ("$2516_8$", "$2516$"), ("$1101_2$", "$1101_3$"), ("$[1,2)$", "$(1,2]$"), ("$0.25$", "$0.26$")]
for gold, answer in PAIRS:
    print(f"{gold:10} read as {parse(gold)[0]!s:16} {answer:10} equal: {verify(parse(gold), parse(answer))}")
PY
"$work/venv/bin/python" "$work/bases.py" | tee "$work/out"
if [ "$(grep -o 'equal: .*' "$work/out" | tr '\n' ' ')" = "equal: True equal: True equal: True equal: False equal: False " ]; then
  echo "as described: the base of a number is no part of its value"
else
  echo "CHANGED: math-verify no longer drops the base of a number" && exit 1
fi
