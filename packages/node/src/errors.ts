/** Settings that cannot work: thrown when a guard is made, never while it runs. */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
}
