"""Gemini CLI: its stream (`stream`), the chats that it saves (`chat`), and the tools that it shares with Qwen Code."""
