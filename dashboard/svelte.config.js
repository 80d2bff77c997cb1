// Runes everywhere: what changes is marked $state, nothing is reactive by accident.
export default { compilerOptions: { runes: true } };
