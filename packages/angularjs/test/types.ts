// Checked by tsc, never run.

import type Angular from 'angular';
import name, { ResealError, type Claims, type ResealProvider, type ResealService } from '../src/index.js';

declare const provider: ResealProvider;
declare const $http: Angular.IHttpService;
declare const reseal: ResealService;
declare const typed: ResealService<{ sub: string; plan: 'gold' | 'free' }>;

export const module: string = name;
export const user: Claims | null = reseal.user;
export const plan: 'gold' | 'free' | undefined = typed.user?.plan;
export const token: Angular.IPromise<string> = reseal.token();
export const error: Error = new ResealError('signed_out');

provider.configure({ api: 'https://auth.example.org', clientId: 'app', mode: 'sliding' });
provider.configure(() => ({ api: 'https://auth.example.org', clientId: 'app', mode: 'cookie' }));
// @ts-expect-error a mode of that name does not exist
provider.configure({ api: 'https://auth.example.org', clientId: 'app', mode: 'jwt' });
// @ts-expect-error the client is required
provider.configure({ api: 'https://auth.example.org', mode: 'fixed' });

void $http.get('/x', { reseal: false });
// @ts-expect-error not a text
void $http.get('/x', { reseal: 'no' });

reseal.on('signedout', ({ reason }) => reason.length);
reseal.on('claims', ({ user, previous }) => [user.phone_number, previous.phone_number]);
// @ts-expect-error no such event
reseal.on('logout', () => {});
// @ts-expect-error the user is for reading
reseal.user = null;
// @ts-expect-error no such claim
void typed.user?.phone_number;
