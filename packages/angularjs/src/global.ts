// For a <script> tag after that of AngularJS.
import type Angular from 'angular';
import { register } from './module.js';

export { createSession, ResealError } from '@reseal/browser';

const { angular } = globalThis as { angular?: Angular.IAngularStatic };
if (!angular) throw new Error('reseal: the script of AngularJS must come before reseal-angularjs.global.js');

/** The module's name. */
export const name = register(angular);
