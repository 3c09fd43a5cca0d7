"""Sojourn behind the interfaces of agent frameworks: one module a framework, one extra a module.

    pip install sojourn[adk]            sojourn.adapters.adk.SojournSessionService
    pip install sojourn[openai-agents]  sojourn.adapters.openai_agents.SojournSession
    pip install sojourn[claude]         sojourn.adapters.claude.SojournSessionStore
    pip install sojourn[langgraph]      sojourn.adapters.langgraph.Threads, ThreadCleaner
    pip install sojourn[aiecs]          sojourn.adapters.aiecs.ContextSessions

Nothing is imported here: each module loads its framework, and nothing of the others.
"""
