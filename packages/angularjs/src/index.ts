import angular from 'angular';
import { register } from './module.js';

export { ResealError } from '@reseal/browser';
export type * from '@reseal/browser';
export type * from './types.js';

/** The module's name, for the list of modules that an app requires. Importing this registers it. */
const reseal = register(angular);
export default reseal;
