'use strict';
const geometry = {};
