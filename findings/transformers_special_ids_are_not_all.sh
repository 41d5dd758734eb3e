#!/usr/bin/env bash
# transformers 5.15.0: `all_special_ids` of a fast tokenizer holds the tokens that have a role (eos, pad, ...) and those named
# in extra_special_tokens. Tokens that tokenizer.json marks as special are not in it, although decode(skip_special_tokens=True)
# drops them. Code that keeps a thinking mark by leaving it out of `all_special_ids` when it decodes therefore believes that the
# mark is plain text, and loses it. rapo_ray takes both kinds (rapo_ray/models/chat_template.py special_ids,
# tests/unit/test_chat_format.py).
# Installs transformers and tokenizers into a temporary folder; downloads no model.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.15.0 2>"$work/log" || { cat "$work/log"; exit 1; }
cat >"$work/decode.py" <<'PY'
import sys

import tokenizers
import transformers
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

backend = Tokenizer(models.WordLevel({"<unk>": 0, "yes": 1, "</s>": 2}, unk_token="<unk>"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
backend.add_special_tokens([AddedToken("[/THINK]", special=True), AddedToken("</s>", special=True)])
backend.save(f"{sys.argv[1]}/tokenizer.json")
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=f"{sys.argv[1]}/tokenizer.json", eos_token="</s>")
ids = tokenizer.encode("[/THINK] yes </s>", add_special_tokens=False)
mark = tokenizer.convert_tokens_to_ids("[/THINK]")
skipped = tokenizer.decode(ids, skip_special_tokens=True)
print(f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}")
print(f"the mark is in all_special_ids: {mark in tokenizer.all_special_ids}; decoded without special tokens: {skipped!r}")
sys.exit(0 if mark not in tokenizer.all_special_ids and "THINK" not in skipped and "yes" in skipped else 1)
PY
"$work/venv/bin/python" "$work/decode.py" "$work" 2>"$work/log" || { cat "$work/log"; echo "the behaviour has changed"; exit 1; }
echo "as described"
