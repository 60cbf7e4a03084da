"""Short chat templates in the layouts of LLM families: special tokens, turns, begin of a reply."""

_DEFAULT_SYSTEM = "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
_IM_TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
_IM_REPLY = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

VICUNA = (
    "{{ bos_token }}A chat. {% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content }} "
    "{% elif m.role == 'assistant' %}ASSISTANT: {{ m.content }}{{ eos_token }}{% else %}{{ m.content }} {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML = _DEFAULT_SYSTEM + _IM_TURNS + _IM_REPLY
# an empty thought stands before the last reply only, and before a reply that is asked for without thinking
QWEN3 = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.index0 > ns.last %}<think>\n\n</think>\n\n{{ m.content.lstrip('\n') }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}" + _IM_REPLY + "{% if add_generation_prompt and "
    "enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)
# thinks unless it is told not to; the system turn says which
SMOLLM3 = (
    "{% set think = enable_thinking is not defined or enable_thinking %}<|im_start|>system\nReasoning Mode: "
    "{{ '/think' if think else '/no_think' }}\n{% if messages[0].role == 'system' %}{{ messages[0].content }}"
    "{% endif %}<|im_end|>\n{% set before = '' if think else '<think>\n\n</think>\n' %}{% for m in messages %}"
    "{% if m.role != 'system' %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{{ before }}{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ before }}{% endif %}"
)
# the system's text stands in the first user turn; roles must alternate
GEMMA = (
    "{{ bos_token }}{% set ns = namespace(prefix='', turns=messages) %}{% if messages[0].role == 'system' %}"
    "{% set ns.prefix = messages[0].content + '\n\n' %}{% set ns.turns = messages[1:] %}{% endif %}"
    "{% for m in ns.turns %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ ns.prefix if loop.first else '' }}"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# Gemma 2: there is no system turn
GEMMA2 = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + GEMMA
# the system's text stands in the last user turn; roles must alternate
MISTRAL = (
    "{{ bos_token }}{% set ns = namespace(prefix='', turns=messages) %}{% if messages[0].role == 'system' %}"
    "{% set ns.prefix = messages[0].content + '\n\n' %}{% set ns.turns = messages[1:] %}{% endif %}"
    "{% set ns.last = ns.turns | map(attribute='role') | list %}{% for m in ns.turns %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ ns.prefix if 'user' not in ns.last[loop.index:] else '' }}{{ m.content }}"
    "[/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
# a token ends the whole conversation too
PHI3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
PHI4 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}"
)
OLMO = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"
    "{{ eos_token if m.role == 'assistant' else '' }}{{ '' if loop.last and m.role == 'assistant' else '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
GRANITE = (
    "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
COMMAND = (
    "{{ bos_token }}{% set names = {'system': 'SYSTEM', 'user': 'USER', 'assistant': 'CHATBOT'} %}"
    "{% for m in messages %}<|START_OF_TURN_TOKEN|><|{{ names[m.role] }}_TOKEN|>{{ m.content }}<|END_OF_TURN_TOKEN|>"
    "{% endfor %}{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}"
)
