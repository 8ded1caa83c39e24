// Go asks for an assembly file in a package that declares functions without bodies (agent_link.go).
