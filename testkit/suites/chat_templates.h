/* Chat templates as models carry them, the parts about tools cut short. */
#ifndef BNT_CHAT_TEMPLATES_H
#define BNT_CHAT_TEMPLATES_H

#define LLAMA3                                                                                     \
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "        \
    "'<|start_header_id|>' + "                                                                     \
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if " \
    "loop.index0 == 0 %}"                                                                          \
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if "            \
    "add_generation_prompt %}"                                                                     \
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
#define BITNET                                                                                     \
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "        \
    "message['role'] | capitalize"                                                                 \
    " + ': '+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content " \
    "= bos_token + content"                                                                        \
    " %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% "  \
    "endif %}"
#define BITNET_WRONG                                                                               \
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}{% if "             \
    "message['role'] == 'user' %}"                                                                 \
    "{{ 'Human: ' + message['content'] + '\\n\\nBITNETAssistant: ' + eos_token }}{% elif "         \
    "message['role'] == "                                                                          \
    "'assistant' %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
#define CHATML                                                                                     \
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] " \
    "+ '<|im_end|>' + "                                                                            \
    "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
#define CHATML_TEXT                                                                                \
    "{% for message in messages %}\n<|im_start|>{{ message.role }}\n{{ message.content "           \
    "}}<|im_end|>\n{% endfor %}\n"                                                                 \
    "{% if add_generation_prompt %}\n<|im_start|>assistant\n{% endif %}"
#define QWEN2                                                                                      \
    "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}{{- \"# Tools\" }}\n{%- else %}\n    {%- " \
    "if messages[0].role "                                                                         \
    "== 'system' %}\n        {{- '<|im_start|>system\\n' + messages[0]['content'] + "              \
    "'<|im_end|>\\n' }}\n    {%- else "                                                            \
    "%}\n        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}\n    "    \
    "{%- endif %}\n{%- endif "                                                                     \
    "%}\n{%- for message in messages %}\n    {%- if (message.role == \"user\") or (message.role "  \
    "== \"system\" and not loop.first) or (message.role == \"assistant\" and not "                 \
    "message.tool_calls) %}\n        {{- '<|im_start|>' + message.role + '\\n' + "                 \
    "message.content + "                                                                           \
    "'<|im_end|>' + '\\n' }}\n    {%- elif message.role == \"assistant\" %}\n        {{- "         \
    "tool_calls | tojson }}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n  " \
    "  {{- "                                                                                       \
    "'<|im_start|>assistant\\n' }}\n"                                                              \
    "{%- endif %}\n"
/* What it does with tools and their answers left out. */
#define QWEN3                                                                                      \
    "{%- if tools %}\n{{- tools | tojson }}\n{%- else %}\n{%- if messages[0].role == 'system' "    \
    "%}\n{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}\n{%- endif %}\n"   \
    "{%- endif %}\n{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length " \
    "- 1) %}\n{%- for message in messages[::-1] %}\n{%- set index = (messages|length - 1) - "      \
    "loop.index0 %}\n{%- if ns.multi_step_tool and message.role == \"user\" and message.content "  \
    "is string and not(message.content.startswith('<tool_response>') and "                         \
    "message.content.endswith('</tool_response>')) %}\n{%- set ns.multi_step_tool = false %}\n"    \
    "{%- set ns.last_query_index = index %}\n{%- endif %}\n{%- endfor %}\n{%- for message in "     \
    "messages %}\n{%- if message.content is string %}\n{%- set content = message.content %}\n{%- " \
    "else %}\n{%- set content = '' %}\n{%- endif %}\n{%- if (message.role == \"user\") or "        \
    "(message.role == \"system\" and not loop.first) %}\n{{- '<|im_start|>' + message.role + "     \
    "'\\n' + content + '<|im_end|>' + '\\n' }}\n{%- elif message.role == \"assistant\" %}\n{%- "   \
    "set "                                                                                         \
    "reasoning_content = '' %}\n{%- if message.reasoning_content is string %}\n{%- set "           \
    "reasoning_content = message.reasoning_content %}\n{%- else %}\n{%- if '</think>' in content " \
    "%}\n{%- set reasoning_content = "                                                             \
    "content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}\n{%- set "   \
    "content = content.split('</think>')[-1].lstrip('\\n') %}\n{%- endif %}\n{%- endif %}\n{%- "   \
    "if "                                                                                          \
    "loop.index0 > ns.last_query_index %}\n{%- if loop.last or (not loop.last and "                \
    "reasoning_content) %}\n{{- '<|im_start|>' + message.role + '\\n<think>\\n' + "                \
    "reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}\n{%- else "   \
    "%}\n{{- '<|im_start|>' + message.role + '\\n' + content }}\n{%- endif %}\n{%- else %}\n{{- "  \
    "'<|im_start|>' + message.role + '\\n' + content }}\n{%- endif %}\n{{- '<|im_end|>\\n' }}\n"   \
    "{%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n{{- "                           \
    "'<|im_start|>assistant\\n' "                                                                  \
    "}}\n{%- if enable_thinking is defined and enable_thinking is false %}\n{{- "                  \
    "'<think>\\n\\n</think>\\n\\n' }}\n{%- endif %}\n{%- endif %}"
#define FALCON_BODY                                                                                \
    "{%- for message in messages %}\n{%- if message['role'] == 'system' %}\n{{- '<|system|>\\n' "  \
    "+ message['content'] "                                                                        \
    "+ '\\n' }}\n{%- elif message['role'] == 'user' %}\n{{- '<|user|>\\n' + message['content'] + " \
    "'\\n' }}\n{%- elif "                                                                          \
    "message['role'] == 'assistant' %}\n{%- if not loop.last %}\n{{- '<|assistant|>\\n' + "        \
    "message['content'] + "                                                                        \
    "eos_token + '\\n' }}\n{%- else %}\n{{- '<|assistant|>\\n' + message['content'] + eos_token "  \
    "}}\n{%- endif %}\n"                                                                           \
    "{%- endif %}\n{%- if loop.last and add_generation_prompt %}\n{{- '<|assistant|>\\n' }}\n{%- " \
    "endif %}\n{%- endfor %}"
#define ZEPHYR                                                                                     \
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + "        \
    "message['content'] + "                                                                        \
    "eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + "                   \
    "message['content'] + eos_token }}\n"                                                          \
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + "     \
    "eos_token }}\n"                                                                               \
    "{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif "  \
    "%}\n{% endfor %}"

#endif
